"""How often the network's class is wrong on a classification dataset (SPP paper section 3.1, Tables 1 and 2)."""
