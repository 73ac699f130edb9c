"""Regional training: plans, the AutoML run of one region, its evaluation, and promotion."""
