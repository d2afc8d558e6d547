"""Loaders, models, training, evaluation, radiomics: the only place that may import torch."""
