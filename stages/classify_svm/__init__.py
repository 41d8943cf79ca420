"""Linear SVMs on l2-normalised features of whole pictures (SPP paper sections 3.2 and 3.3, Tables 3 and 4)."""
