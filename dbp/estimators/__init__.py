"""Estimators for scikit-learn, over ``dbp.fit``; they need the extra ``sklearn``."""
