"""The parties of an encrypted sum, and who holds which key.

Only bytes pass between them.

                public material
    KeyAuthority ------------> Encryptor of each client
         ^  |                        | upload
     sum |  | released               v
         |  '----------------> AggregationServer
         '---------------------------'

With a joint key, the `KeyHolder`s of clients take the place of the authority, and the
server's `Fusion` adds up their partial decryptions.

Assumed throughout: parties know each other's public keys (`channels.Directory`), so
that a message comes from the sender it names. Clients get the public material from the
authority or from the holders, never from a server that could hand them its own key.

    decryption_log <- authority, joint_key <- holders
    encryptor; server <- fusion
    all of these, traffic, sockets <- processes; sockets <- children

`processes` and `children` put the parties into processes of their own.
"""
