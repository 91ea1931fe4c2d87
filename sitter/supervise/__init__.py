"""The training process: started, waited for, its end written down."""
