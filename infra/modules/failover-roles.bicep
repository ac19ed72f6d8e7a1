metadata name = 'Failover roles'
metadata description = 'Custom roles with what src/azure/arm-*.ts asks of Azure Compute, for the identity of failovers, in the resource group of the disks and machines.'

import { principalType } from 'roles.bicep'

@description('Required. Begin of the names of the roles, unique in the tenant.')
param name string

@description('Required. Who makes disks and machines.')
param principal principalType

@description('Optional. Whether machines are made too, not only disks.')
param machines bool = false

var diskActions = [
  'Microsoft.Compute/disks/beginGetAccess/action'
  'Microsoft.Compute/disks/delete'
  'Microsoft.Compute/disks/endGetAccess/action'
  'Microsoft.Compute/disks/read'
  'Microsoft.Compute/disks/write'
]
// Attaching a network interface to a machine is a right of its own, and Azure reads the interface for it.
var machineActions = [
  'Microsoft.Compute/virtualMachines/delete'
  'Microsoft.Compute/virtualMachines/read'
  'Microsoft.Compute/virtualMachines/write'
  'Microsoft.Network/networkInterfaces/join/action'
  'Microsoft.Network/networkInterfaces/read'
]
var roles = concat(
  [{ title: 'disks', actions: diskActions }],
  machines ? [{ title: 'machines', actions: machineActions }] : []
)

resource definitions 'Microsoft.Authorization/roleDefinitions@2022-04-01' = [
  for role in roles: {
    name: guid(resourceGroup().id, name, role.title)
    properties: {
      roleName: '${name} ${role.title}'
      description: 'Tidemark: ${role.title} of failovers'
      type: 'CustomRole'
      assignableScopes: [resourceGroup().id]
      permissions: [
        {
          actions: role.actions
          notActions: []
        }
      ]
    }
  }
]

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (role, index) in roles: {
    name: guid(resourceGroup().id, principal.principalId, definitions[index].id)
    properties: {
      principalId: principal.principalId
      principalType: principal.principalType
      roleDefinitionId: definitions[index].id
    }
  }
]
