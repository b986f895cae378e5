"""What a run is: its settings, classes, sets, folders, stages and their markers."""
