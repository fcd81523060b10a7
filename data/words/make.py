"""Make the word vectors in this folder from sentence-transformers/all-MiniLM-L6-v2.

    pip install "model2vec[distill]"
    python data/words/make.py FOLDER    # which holds the encoder; its name on the hub does as well

Each word piece goes through the encoder alone; what comes out is reduced to 256 numbers, weighted
by how rare the piece is, and stored in 8 bits: the method and the format of model2vec.
"""

import sys
from pathlib import Path

from model2vec.distill import distill

distill(sys.argv[1], pca_dims=256, quantize_to="int8").save_pretrained(Path(__file__).parent)
