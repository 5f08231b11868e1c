"""Layers: quantizers, dropout, the mixture of experts, operations fused by torch.compile."""
