"""Predict for files: python predict.py ckpt=RUN/checkpoints/best.ckpt source=FILE_OR_FOLDER."""

from resmet.commands.predict import main

if __name__ == "__main__":
    main()
