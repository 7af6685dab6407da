"""Pod networking: addresses, links, host ports, CNI plugins and names; each kept so that a crash can be repaired."""
