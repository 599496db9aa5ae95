"""Graphs: our networks as ONNX, made of weights without torch, for engines and for export."""
