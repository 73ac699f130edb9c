"""What a deployment needs before its first pod is ready: secret files, roles and databases, tables, the Mage login.

The local stack does these steps by itself when it starts; in a cluster they are the commands `mage-platform secrets`
and `mage-platform database`, run by a person and by a Job.
"""
