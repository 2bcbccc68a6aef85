"""Make a domain's small model: `python -m workshop.training music|pictures [--from-shipped]`, to lib/small.

It renders the examples, trains the autoencoder, encodes the examples and trains the denoiser, and shows the progress of
each. Its results lie in workshop/work: when interrupted, it continues from there. With --from-shipped it starts from
the weights in lib/small, trains the decoder alone, and then the denoiser for fewer steps.
"""

import argparse

from workshop.training import autoencoder, denoiser
from workshop.training.dataset import COUNTS

parser = argparse.ArgumentParser(description="Make a domain's small model.")
parser.add_argument("domain", choices=list(COUNTS))
parser.add_argument("--from-shipped", action="store_true", help="start from the weights in lib/small")
arguments = parser.parse_args()
autoencoder.main(arguments.domain, arguments.from_shipped)
denoiser.main(arguments.domain, arguments.from_shipped)
