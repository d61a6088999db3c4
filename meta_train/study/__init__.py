"""Estimators of meta-gradients against the exact one."""
