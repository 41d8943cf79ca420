"""Parts of HTML pages that show results: charts, bars, pictures with boxes, and what every page says of its runs."""
