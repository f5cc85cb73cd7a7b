"""Boxes in pictures: geometry, assignment, suppression, annotations, overlays."""
