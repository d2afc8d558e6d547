"""Loaders, models, training, evaluation, radiomics: the only place that may import torch or scikit-learn.

A recipe says what is learned from which dataset; a run is what came of it. What a kind of model is lies in one module
(``baseline``); the gate, the run folder, the scores and the report are the same for every kind.
"""
