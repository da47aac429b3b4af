"""moto's server, whose RegisterImage forgets all but the name, taught to keep
what lookups of images ask for; and to forget the blocks of snapshots that are
deleted, which would take all memory in hundreds of runs."""

from moto import server
from moto.ebs.models import ebs_backends
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.responses.amis import AmisResponse

forgetful = AmisResponse.register_image


def register_image(self):
    answer = forgetful(self)
    image = list(self.ec2_backend.amis.values())[-1]
    for field, parameter in {
        "architecture": "Architecture",
        "virtualization_type": "VirtualizationType",
        "boot_mode": "BootMode",
        "root_device_name": "RootDeviceName",
    }.items():
        value = self._get_param(parameter)
        if value:
            setattr(image, field, value)
    return answer


AmisResponse.register_image = register_image

unforgetting = EBSBackend.delete_snapshot


def delete_snapshot(self, snapshot_id):
    snapshot = unforgetting(self, snapshot_id)
    deleted = ebs_backends[self.account_id][self.region_name].snapshots.pop(snapshot_id, None)
    for block in deleted.blocks.values() if deleted else ():
        block.block_data = b""  # moto keeps a list of all blocks that ever were
    return snapshot


EBSBackend.delete_snapshot = delete_snapshot
server.main()
