if "data_exporter" not in globals():
    from mage_ai.data_preparation.decorators import data_exporter


@data_exporter
def after_refusal(rows, *args, **kwargs):
    raise AssertionError("must not run")
