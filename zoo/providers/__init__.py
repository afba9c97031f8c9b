"""Libraries with models of their own: ``timm:resnet50d`` and ``torchvision:regnet_y_400mf`` are backbones."""
