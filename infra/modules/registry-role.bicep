metadata name = 'Role on a registry'
metadata description = 'Lets somebody pull images from a container registry, which may be in another resource group.'

import { principalType, roleIds } from 'roles.bicep'

@description('Required. Name of the registry, in the resource group that this module is deployed to.')
param name string

@description('Required. Who pulls.')
param principal principalType

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' existing = {
  name: name
}

resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(registry.id, principal.principalId, roleIds.AcrPull)
  scope: registry
  properties: {
    principalId: principal.principalId
    principalType: principal.principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.AcrPull)
  }
}
