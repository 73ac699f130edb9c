"""The sidecar: answers predictions of the champions in the registry, from a JVM inside its own process."""
