"""The default values of all settings: command line, experiment files and training take them from here."""

STORE = "mirembed-store"
"""Folder of the store, unless MIREMBED_STORE names another."""
FEATURES = "logmel"
NETWORK = "gru"
APPROACH = "rbf-sl"
LEARNER = "svm"
EPOCHS = 400
BATCH = 32
OPTIMIZER = "adadelta"
EXCERPT = 100
"""Frames per excerpt."""
ENSEMBLE = 1
SEED = 0
NORMALIZE = "training"
DEVICE = "auto"
ENGINE = "auto"

N_FOLDS = 10
TEST_SIZE = 0.1
INNER_FOLDS = 3
CHECKPOINT_EVERY = 10
"""Epochs between two scored checkpoints of an evaluation."""

MAX_PER_ARTIST = 3
"""Tracks by one artist in a playlist."""
