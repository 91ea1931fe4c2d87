"""The machine: GPU through NVML, CPU, memory and disk through psutil."""
