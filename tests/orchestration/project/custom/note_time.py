if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def note_time(*args, **kwargs):
    return {"execution_date": str(kwargs["execution_date"])}
