"""What a release says about itself: manifest, pointer, dataset card, Croissant description, verify and diff."""
