"""A GAN: two networks, two optimizers, one learning rate that both share in their own ratio.

    lrfinder find studies/examples/gan_loop.py
    lrfinder run studies/examples/gan_loop.py --families cosine,step

The loss of the generator says little, for it moves with the discriminator. So the loop is measured
by how far generated digits are from held-out ones: the energy distance, 0 for equal distributions.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrfinder

NOISE = 16
images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
TRAIN, VALID = images[:1400], images[1400:]


def energy_distance(a, b):
    return 2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()


def train(training):
    generator = nn.Sequential(nn.Linear(NOISE, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
    discriminator = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=5e-4, betas=(0.5, 0.999))
    loader = DataLoader(TensorDataset(TRAIN), batch_size=64, shuffle=True, drop_last=True)
    real, fake = torch.ones(64, 1), torch.zeros(64, 1)
    bce = nn.functional.binary_cross_entropy_with_logits

    @torch.no_grad()
    def evaluate():
        generated = generator(torch.randn(len(VALID), NOISE))
        return {"valid_loss": energy_distance(generated, VALID)}

    training.drive(generator=of_generator, discriminator=of_discriminator)
    training.measure(evaluate)

    for _ in range(training.epochs):
        for (x,) in loader:
            generated = generator(torch.randn(64, NOISE))
            of_discriminator.zero_grad()
            loss = bce(discriminator(x), real) + bce(discriminator(generated.detach()), fake)
            loss.backward()
            of_discriminator.step()

            of_generator.zero_grad()
            fooled = bce(discriminator(generated), real)
            fooled.backward()
            of_generator.step()
            training.log(loss)  # the discriminator's: the generator's rises where it is found out


loop = lrfinder.Loop(train, epochs=20)

if __name__ == "__main__":
    print(lrfinder.range_test(loop).suggest())
