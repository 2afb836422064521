"""Make the sound of a batch on the GPU: recordings in place, rooms, bands, noises, levels; then log-mel features."""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from compose import Batch
from torch import Tensor

RATE, N_FFT, HOP, MELS = 16000, 400, 160, 128


def mel_filters() -> Tensor:
    """The Slaney-scale, Slaney-normalised bank (201, 128) over 0 to 8 kHz."""

    def to_hz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))

    edges = to_hz(np.linspace(0, 15 + math.log(8) * 27 / math.log(6.4), MELS + 2))
    bins = np.linspace(0, RATE / 2, N_FFT // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bank = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    return torch.from_numpy(bank.astype(np.float32))


class Synthesizer:
    """Turns batches into samples and features. `bank` is every recording at every speed, float32, end to end."""

    def __init__(self, bank: Tensor) -> None:
        self.bank, self.device = bank, bank.device
        self.filters, self.window = mel_filters().to(bank.device), torch.hann_window(N_FFT, device=bank.device)

    def features(self, samples: Tensor) -> Tensor:
        """(B, N) samples to (B, 128, N // 160), each row by its own maximum."""
        spectrum = torch.stft(
            samples, N_FFT, HOP, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        power = spectrum[..., :-1].abs().square().transpose(1, 2) @ self.filters
        log = power.clamp(min=1e-10).log10()
        log = torch.maximum(log, log.amax((1, 2), keepdim=True) - 8)
        return ((log + 4) / 4).transpose(1, 2)

    def rows(self, count: int, low: float, high: float) -> Tensor:
        return torch.rand(count, 1, device=self.device) * (high - low) + low

    def chance(self, count: int, probability: float) -> Tensor:
        return (torch.rand(count, 1, device=self.device) < probability).float()

    def place(self, batch: Batch, varied: bool) -> Tensor:
        """The recordings, each with its own gain and, when `varied`, softened edges, where the batch says."""
        B, N = len(batch.tokens), batch.samples
        out = torch.zeros(B * N, device=self.device)
        if not len(batch.length):
            return out.view(B, N)
        length, source, target = (
            torch.from_numpy(t).to(self.device) for t in (batch.length, batch.source, batch.target)
        )
        owner = torch.repeat_interleave(
            torch.arange(len(length), device=self.device), length, output_size=int(batch.length.sum())
        )
        ends = length.cumsum(0)
        at = torch.arange(len(owner), device=self.device) - (ends - length)[owner]
        level = 10 ** (torch.randn(len(length), device=self.device) * (4 if varied else 3) / 20)
        sound = self.bank[source[owner] + at] * level[owner]
        if varied:
            edge = (torch.rand(len(length), device=self.device) * 400 - 200).clamp(min=1)[owner]
            sound = sound * (torch.minimum(at + 1, length[owner] - at) / edge).clamp(max=1)
        out[target[owner] + at] = sound
        return out.view(B, N)

    def spectrum_of_room(self, B: int, size: int) -> Tensor:
        """Random rooms, bands and equalisers as one filter (B, size / 2 + 1)."""
        time = torch.arange(8000, device=self.device) / RATE
        decay = torch.exp(-6.9 * time / self.rows(B, 0.08, 0.7)) * torch.randn(B, 8000, device=self.device)
        decay = decay / decay.norm(dim=1, keepdim=True) * 10 ** (self.rows(B, -22, 2) / 20) * self.chance(B, 0.35)
        decay = decay * (time > 0.002)
        decay[:, 0] = 1
        room = torch.fft.rfft(decay, size)
        hertz = torch.linspace(0, RATE / 2, size // 2 + 1, device=self.device)
        shape = F.interpolate(torch.randn(B, 1, 9, device=self.device) * 4, size // 2 + 1, mode="linear")[:, 0]
        gain = 10 ** (shape * self.chance(B, 0.5) / 20)
        low, high = self.rows(B, 30, 400), self.rows(B, 2200, 7500)
        above = torch.sigmoid((hertz - low) / (low * 0.1))
        below = torch.sigmoid((high - hertz) / (high * 0.03))
        use_low, use_high = self.chance(B, 0.3), self.chance(B, 0.3)
        return room * gain * (above * use_low + 1 - use_low) * (below * use_high + 1 - use_high)

    def filtered(self, x: Tensor) -> Tensor:
        B, N = x.shape
        size = -(-(N + 8000) // 8000) * 8000
        return torch.fft.irfft(torch.fft.rfft(x, size) * self.spectrum_of_room(B, size), size)[:, :N]

    def coloured(self, B: int, N: int) -> Tensor:
        """Noise from white to brown, half of it swelling and fading, RMS 1."""
        size = -(-N // 8000) * 8000
        hertz = torch.linspace(0, RATE / 2, size // 2 + 1, device=self.device).clamp(min=20)
        spectrum = torch.fft.rfft(torch.randn(B, size, device=self.device)) * hertz ** -self.rows(B, 0, 1.2)
        noise = torch.fft.irfft(spectrum, size)[:, :N]
        points = max(2, N // 4000)
        swell = F.interpolate(torch.randn(B, 1, points, device=self.device), N, mode="linear", align_corners=True)[:, 0]
        noise = noise * 10 ** (swell * self.chance(B, 0.5) * self.rows(B, 0, 12) / 20)
        return noise / (noise.square().mean(1, keepdim=True).sqrt() + 1e-9)

    def hum(self, B: int, N: int) -> Tensor:
        """Harmonics of a low or a middle tone, RMS about 1."""
        time = torch.arange(N, device=self.device) / RATE
        base = torch.where(self.chance(B, 0.7) > 0, 50 + 10 * self.chance(B, 0.5), self.rows(B, 80, 1000))
        out = torch.zeros(B, N, device=self.device)
        for harmonic in range(1, 7):
            phase = 2 * math.pi * (base * harmonic * time + self.rows(B, 0, 1))
            out += torch.sin(phase) * torch.rand(B, 1, device=self.device) ** 2 / harmonic**0.5
        return out

    def clicks(self, B: int, N: int) -> Tensor:
        hits = torch.rand(B, N, device=self.device) < 10 ** self.rows(B, -4.6, -3.2)
        return hits * torch.randn(B, N, device=self.device) * 8

    def melody(self, B: int, N: int) -> Tensor:
        """Notes with overtones that die away, as music has them."""
        time = torch.arange(N, device=self.device) / RATE
        out = torch.zeros(B, N, device=self.device)
        for _ in range(max(3, min(12, N // 12000))):
            pitch = 110 * 2 ** ((torch.rand(B, 2, 1, device=self.device) * 48).round() / 12)
            since = time - (self.rows(2 * B, -0.2, N / RATE).view(B, 2, 1))
            fading = torch.exp(-since.clamp(min=0) / self.rows(2 * B, 0.05, 0.8).view(B, 2, 1))
            angle = 2 * math.pi * pitch * since
            tone = torch.sin(angle) + torch.sin(2 * angle) / 2 + torch.sin(3 * angle) / 3
            loud = torch.rand(B, 2, 1, device=self.device)
            out += (fading * tone * (since * 200).clamp(0, 1) * loud).sum(1)
        return out

    def noise(self, x: Tensor) -> Tensor:
        """One mixture of noises for each row, RMS about 1; `x` lends the babble its voices, backwards."""
        B, N = x.shape
        out = self.coloured(B, N) * self.chance(B, 0.75)
        out += self.hum(B, N) * self.chance(B, 0.25) * self.rows(B, 0.1, 2)
        out += self.clicks(B, N) * self.chance(B, 0.15)
        voices = sum(x[torch.randperm(B, device=self.device)].roll(int(s), 1) for s in np.random.randint(0, N, 5))
        voices = voices.flip(1) / (voices.square().mean(1, keepdim=True).sqrt() + 1e-4)
        return out + voices * self.chance(B, 0.12) * self.rows(B, 0.2, 1)

    def levels(self, x: Tensor, quiet: Tensor) -> Tensor:
        """Slopes, the level of the whole, clipping, coarse and 16-bit rounding."""
        B, N = x.shape
        ramp = torch.linspace(-0.5, 0.5, N, device=self.device) * torch.randn(B, 1, device=self.device) * 12
        x = x * 10 ** (ramp * self.chance(B, 0.25) / 20)
        level = torch.where(quiet, self.rows(B, -85, -1), self.rows(B, -38, 3))
        x = (x / (x.abs().amax(1, keepdim=True) + 1e-9) * 10 ** (level / 20)).clamp(-1, 1)
        mu = x.sign() * torch.log1p(255 * x.abs()) / math.log(256)
        coarse = (mu * 127).round() / 127
        coarse = coarse.sign() * (256 ** coarse.abs() - 1) / 255
        x = torch.where(self.chance(B, 0.08) * ~quiet > 0, coarse, x)
        return torch.where(self.chance(B, 0.7) > 0, (x * 32768).round().clamp(-32768, 32767) / 32768, x)

    def samples(self, batch: Batch, strength: float) -> Tensor:
        """(B, N) sound. `strength` 0: the recordings alone; 1: everything."""
        x = self.place(batch, strength > 0)
        if strength == 0:
            return x
        B, N = x.shape
        quiet = torch.from_numpy(batch.quiet).to(self.device)[:, None]
        loudness = x.square().sum(1, keepdim=True) / ((x != 0).sum(1, keepdim=True) + 1)
        noise = self.noise(x)
        dirty = self.chance(B, 0.6 * strength)
        snr = torch.where(self.chance(B, 0.5) > 0, self.rows(B, 4, 30), self.rows(B, 25, 60))
        mixed = self.filtered(x + noise * loudness.sqrt() * 10 ** (-snr / 20) * dirty)
        x = torch.where(self.chance(B, 0.75) > 0, mixed, x)
        if batch.quiet.any():
            rows = batch.quiet.nonzero()[0]
            tones = self.melody(len(rows), N)
            musical = self.chance(len(rows), 0.25)
            silent = self.chance(len(rows), 0.12)
            alone = self.filtered(noise[rows] * (1 - musical) + tones * musical) * (1 - silent)
            x[rows] = alone
        return self.levels(x, quiet)
