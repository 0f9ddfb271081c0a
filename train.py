"""Train a task, then test it with the best weights: python train.py [overrides]."""

from resmet.commands.train import main

if __name__ == "__main__":
    main()
