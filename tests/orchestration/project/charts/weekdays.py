"""A chart that needs nothing but what Mage passes to it."""

if "xy" not in globals():
    from mage_ai.data_preparation.decorators import xy


@xy
def weekdays(*args, **kwargs):
    return ["day", "place"], [["Monday", kwargs["first"]], ["Tuesday", kwargs["first"] + 1]]
