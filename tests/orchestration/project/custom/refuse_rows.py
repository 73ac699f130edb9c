from mage_platform.errors import ValidationStopped

if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def refuse_rows(*args, **kwargs):
    raise ValidationStopped("3 of 10 rows were refused, at most 1 may be. Mend the source.")
