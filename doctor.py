"""Examine a folder: what the data is, what is wrong with it, which command trains on it: python doctor.py DIR [json=PATH] [data=FORMAT]."""

from resmet.commands.doctor import main

if __name__ == "__main__":
    main()
