"""Small classifiers trained on scikit-learn's handwritten digits; ``scripts/train_digits.py`` made them."""

from pathlib import Path

from zoo.pretrained.shipped import Shipped

_HERE = Path(__file__).parent

LENET = Shipped.beside(_HERE / "lenet-digits.json")
VGG_LITE = Shipped.beside(_HERE / "vgg-lite-digits.json")
RESNET_LITE = Shipped.beside(_HERE / "resnet-lite-digits.json")
