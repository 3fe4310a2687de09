"""Who holds which key: clients, server, key authority, holders of key shares."""
