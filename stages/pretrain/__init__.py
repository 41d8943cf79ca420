"""The CNN that everything starts from: trained on a classification set, or given weights checked and normalised."""
