if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def plan_regions(*args, **kwargs):
    regions = kwargs.get("regions", ["EWR", "JFK", "LGA"])
    return [
        [{"region": region, "factor": kwargs.get("factor", 1)} for region in regions],
        [{"block_uuid": f"train_{region}"} for region in regions],
    ]
