"""Pack data of any format into shards: python pack.py data=voc data.root=DIR out=DIR [shard_mb=64]."""

from resmet.commands.pack import main

if __name__ == "__main__":
    main()
