"""`ray job submit` runs this: crlft register RUN --name NAME [options]."""

import sys

from crlft_ray.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["register"]
    main()
