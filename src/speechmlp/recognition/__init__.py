"""Recognition with a trained model: letters, spelled words, and their output as text, CSV and JSON."""
