"""Make a domain's small model from nothing: `python -m workshop.training music|pictures`, to lib/small.

It renders the examples, trains the autoencoder, encodes the examples, trains the denoiser, and shows the progress of
each. What it has made lies in workshop/work: stopped and begun again, it goes on from there.
"""

import sys

from workshop.training import autoencoder, denoiser
from workshop.training.dataset import COUNTS

if sys.argv[1:] not in ([domain] for domain in COUNTS):
    sys.exit(f"usage: python -m workshop.training {'|'.join(COUNTS)}")
autoencoder.main(sys.argv[1])
denoiser.main(sys.argv[1])
