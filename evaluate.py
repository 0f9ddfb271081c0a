"""Evaluate a checkpoint on its own data, or on other data of its classes: python evaluate.py ckpt=RUN/checkpoints/best.ckpt."""

from resmet.commands.evaluate import main

if __name__ == "__main__":
    main()
