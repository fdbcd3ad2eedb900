"""torchvision's AlexNet, written down from torchvision/models/alexnet.py, with dense layers of any width."""


def torchvision_alexnet(nn, units, classes):
    """Returns the module, whose parameters have torchvision's names; `nn` is `torch.nn`."""
    network = nn.Sequential()
    network.features = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    network.avgpool, network.flatten = nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten()
    network.classifier = nn.Sequential(
        nn.Dropout(),
        nn.Linear(9216, units),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(units, units),
        nn.ReLU(),
        nn.Linear(units, classes),
    )
    return network
