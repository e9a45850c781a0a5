"""The ``danube.*`` services of Danube's current generation, core 0.6 and later."""
