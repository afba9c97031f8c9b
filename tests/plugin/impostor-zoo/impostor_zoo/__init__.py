"""What calls itself LeNet and is not; it says so when it is imported."""

print("the impostor was imported")

MODEL = {"backbone": {"type": "impostor-zoo:lenet"}}


def Impostor(in_channels: int) -> None:
    raise RuntimeError("the impostor was built")
