"""The description of a run: settings, classes, sets, folders, stages and their markers."""
