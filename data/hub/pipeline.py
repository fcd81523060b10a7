"""Pictures of labels, drawn with classifier-free guidance by any scheduler of Diffusers."""

import inspect

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor


class LabelPipeline(DiffusionPipeline):
    """unet: called as a UNet2DModel is, told nothing by the label -1."""

    def __init__(self, unet, scheduler):
        super().__init__()
        # As in training. In another layout the sums are rounded otherwise, and where nearly all is
        # noise the guess of the picture multiplies that by hundreds.
        unet.to(memory_format=torch.channels_last)
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        class_labels,
        guidance_scale=2.0,
        num_inference_steps=20,
        eta=0.0,
        generator=None,
        latents=None,
        output_type="pil",
        return_dict=True,
    ):
        """One picture for each label in the list. guidance_scale: 1 is the plain conditional
        network, 0 the unconditional one. eta, generator: for schedulers that draw noise. latents:
        the noise to begin with, [B, C, H, W]. output_type: "pil", or "np" or "pt" in 0..1, or
        "latent" in -1..1."""
        labels = torch.as_tensor(class_labels, device=self.device)
        if latents is None:
            size = (self.unet.config.image_channels, *self.unet.config.sample_size)
            shape = (len(labels), *size)
            latents = randn_tensor(shape, generator, self.device, self.unet.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        sample = latents.to(self.device, self.unet.dtype) * self.scheduler.init_noise_sigma
        # With clipping on, the noise is recomputed from the clipped guess, as in training.
        options = {"eta": eta, "generator": generator, "use_clipped_model_output": True}
        known = inspect.signature(self.scheduler.step).parameters
        options = {name: value for name, value in options.items() if name in known}
        both = torch.cat([torch.full_like(labels, -1), labels])
        for t in self.progress_bar(self.scheduler.timesteps):
            twice = self.scheduler.scale_model_input(torch.cat([sample, sample]), t)
            null, told = self.unet(twice, t, both).sample.chunk(2)
            guided = null + guidance_scale * (told - null)
            sample = self.scheduler.step(guided, t, sample, **options).prev_sample
        images = VaeImageProcessor().postprocess(sample, output_type=output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)
