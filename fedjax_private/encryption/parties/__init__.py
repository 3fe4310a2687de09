"""The parties of an encrypted sum, and who holds which key.

Only bytes pass between them.

             public key, voucher
    KeyAuthority ------------> Encryptor of each client
      ^  ^  |                     |  | upload
      |  |  |      declaration    |  |
      |  '--|---------------------'  v
      |     '----------------> AggregationServer
      |       released               |
      '------------------------------'
        sum

With a joint key, the `KeyHolder`s of clients take the place of the authority, and the
server's `Fusion` adds up their partial decryptions. Decryptors check by the
declarations which uploads a sum holds (see `declarations`), unless the server is
assumed to follow the protocol.

Assumed throughout: parties know each other's public keys (`channels.Directory`), so
that a message comes from the sender it names. Clients and the server also know who
makes keys. They use a key only if its makers vouch for it: the authority, or every
holder (see `messages.vouchers`). So nobody who carries a public key can exchange it.

    declarations <- decryption_log, encryptor, server
    decryption_log <- authority; dealing <- joint_key; these two <- holders
    encryptor; server <- fusion
    all of these, traffic, sockets <- processes; sockets <- children

`processes` and `children` put the parties into processes of their own.
"""
