import time

import mage_platform

if "transformer" not in globals():
    from mage_ai.data_preparation.decorators import transformer


@transformer
def train_region(plan, *args, **kwargs):
    print(f"a block prints what it likes, under mage_platform {mage_platform.__version__}")
    if plan["region"] == kwargs.get("fail_region"):
        raise KeyError("origin")
    time.sleep(1.5)
    return {"region": plan["region"], "score": len(plan["region"]) * plan["factor"]}
