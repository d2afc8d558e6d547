"""Deep-learning radiomics: features inside masks, a signature among them, classifiers, statistics, report."""
