"""Real NATS, etcd and S3 servers on free ports."""
