"""One module per dataset with ``write(folder, …)``: a small made-up raw release in the publisher's own layout."""
