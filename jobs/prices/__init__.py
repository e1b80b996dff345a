"""What predictions cost: amounts, the prices in the settings, rate cards."""
