"""The course's U-Net, told labels, as a model of Diffusers that is called as their UNet2DModel."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn

from cfd_course.conditions import Condition
from cfd_course.unet import Unet


class LabelUnet(ModelMixin, ConfigMixin):
    """labels: how many; sample_size: height and width of a picture; the rest: see Unet."""

    @register_to_config
    def __init__(
        self,
        labels,
        sample_size,
        image_channels,
        channels,
        token_channels,
        attention=None,
        heads=4,
        patch=1,
        placed=False,
    ):
        super().__init__()
        self.unet = Unet(
            image_channels,
            channels,
            token_encoder=nn.Embedding(labels, token_channels),
            attention=attention,
            heads=heads,
            patch=patch,
            placed=placed,
        )

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        """What the network predicts for sample [B, C, H, W]. timestep: counted from 0, one less
        than the course's t, a number or [B]; fractions are rounded, for the network knows whole
        steps. class_labels: [B], -1 for an example that is told nothing; None for nobody told."""
        t = torch.as_tensor(timestep, device=sample.device).round().long() + 1
        condition = None
        if class_labels is not None:
            tokens = class_labels.clamp(min=0)[:, None]
            condition = Condition(tokens=tokens, present=class_labels >= 0)
        predicted = self.unet(sample, t, condition)
        return UNet2DOutput(sample=predicted) if return_dict else (predicted,)
