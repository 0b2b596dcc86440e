"""What a run says to people: sentences, report.md, notebook, dashboard, training script."""
